from fixtures import bundle, graph, ros_domain, spec  # noqa: F401
