from hypothesis import settings

settings.register_profile("pure", max_examples=150, deadline=None, derandomize=True)
settings.load_profile("pure")
