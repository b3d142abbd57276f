"""What `qatspec new DIR` recognises, one file a format. It needs neither torch nor labels read
whole."""
