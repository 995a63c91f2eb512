"""Quality of images, and confidence intervals."""
