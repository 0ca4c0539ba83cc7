"""How deep Hypothesis looks, beside its default."""

from hypothesis import HealthCheck, Phase, settings

settings.register_profile("deep", max_examples=200, stateful_step_count=30, deadline=None, print_blob=True,
                          suppress_health_check=list(HealthCheck))  # fmt: skip
settings.register_profile("search", parent=settings.get_profile("deep"), max_examples=10, stateful_step_count=15,
                          phases=[Phase.generate], database=None)  # fmt: skip
