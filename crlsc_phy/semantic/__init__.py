"""Networks of CRLSC: teacher, local encoder, detail coders, and the runtimes that execute them."""
