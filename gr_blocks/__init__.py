"""GNU Radio blocks: one block a file, its Companion description (``.block.yml``) beside it.

The blocks are thin: they queue, convert between messages and arrays, and call :mod:`crlsc_phy`.
"""
