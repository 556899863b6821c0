"""The experiments behind the figures in our documents; each prints them again by one command."""
