"""The networks of CRLSC: teacher, local encoder, VQ-VAE detail, and the runtimes that execute them."""
