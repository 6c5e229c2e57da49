"""What any long work shares: supervised children, hashes, claims, atomic files, progress.

Nothing in this room knows what a registration is.
"""
