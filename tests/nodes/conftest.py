from fixtures import bundle, graph, ros_domain  # noqa: F401
