"""What this machine is, what it can run, and work spread over its cores."""
