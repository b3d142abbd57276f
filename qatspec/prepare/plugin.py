"""Built-in records of this room, registered through the same entry points as any plugin."""
