"""What one measures about a link, and how it is shown."""
