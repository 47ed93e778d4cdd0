"""Where platforms push to us: what takes their requests, and what it counts [S13]."""
