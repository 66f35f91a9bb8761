"""Recording: episodes as rosbag2 folders (MCAP) with labels and an audit. No rclpy."""
