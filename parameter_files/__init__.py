"""Ready, named and commented parameter files, shipped with iterreg.

One folder per method; a preset is named by its file's stem, as in ``--method syn:cheap``.
"""
