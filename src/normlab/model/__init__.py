"""The decoder-only transformer and its interchangeable parts. A part's keyword-only arguments are its configuration."""
