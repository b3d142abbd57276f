"""A work directory as one self-contained HTML page (page), a prepared model as a picture."""
