"""The networks, which know no policy and no algorithm."""
