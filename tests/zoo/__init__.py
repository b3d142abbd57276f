"""Public nets, written from their papers' tables, at any width, depth and resolution.

One file a family, each with a tuple `NETS`; `zoo.nets()` collects them. The nets are spelt in
different ways on purpose (modules, functions, methods, operators; in place or not): together they
are what `prepare` and `lower` have to understand.
"""
