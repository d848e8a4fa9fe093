"""What makes parts of the repository from its code; nothing of it ships."""
