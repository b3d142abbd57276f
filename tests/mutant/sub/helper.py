def gain():
    return 1.0
