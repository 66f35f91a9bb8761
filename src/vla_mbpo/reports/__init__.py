"""Reports: HTML pages of one file each, which open offline. No ROS and no torch unless a module says so."""
