"""Tiny worlds, searched exhaustively: the real ledgers and bags, and everything that can befall them."""
