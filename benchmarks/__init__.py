"""The experiments behind the figures in our documents. ``benchmarks/README.md`` lists the command that prints each figure."""
