"""The border to foreign files: one module per convention, nothing else in iterreg knows one.

Every reader ends in `iterreg.field.DisplacementField`, every writer starts from one. The table of
conventions with their formulas is docs/conventions.md.
"""
