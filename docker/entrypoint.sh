#!/bin/bash
# The ROS 2 installation, then this package, then the command.
set -e
source "/opt/ros/${ROS_DISTRO}/setup.bash"
source /opt/vla_mbpo/install/setup.bash
exec "$@"
