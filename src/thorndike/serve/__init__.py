"""What an agent needs outside: files for other programs, and how fast they answer."""
