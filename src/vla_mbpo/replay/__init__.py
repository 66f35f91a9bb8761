"""A recorded episode put back on the topics, and what models say of it now beside what was said then."""
