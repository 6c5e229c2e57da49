"""Tables of labels: ``label,name,group``."""
