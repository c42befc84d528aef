"""Where runs execute. Today: subprocesses of this machine."""
