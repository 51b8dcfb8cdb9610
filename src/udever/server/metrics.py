"""Prometheus metrics of one server, in a registry of their own."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from udever.server.batcher import BatchReport

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_TOKENS = tuple(2**power for power in range(3, 17))


class Metrics:
    """What is counted. Names begin with `udever_`; times are in seconds."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"udever_{name}", text, labels, registry=self.registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"udever_{name}", text, labels, registry=self.registry, buckets=buckets)

        self._requests = counter("requests", "Requests answered.", "endpoint", "status")
        self._seconds = histogram("request_seconds", "From headers to answer.", _SECONDS, "endpoint")
        self.texts = counter("texts", "Texts taken.")
        self.truncated = counter("truncated_texts", "Texts cut to the model's length.")
        self.cancelled = counter("cancelled_requests", "Requests whose client left before the answer.")
        self._refused = counter("refused_connections", "Connections hung up on before a request was taken.", "reason")
        self._tokens = counter("tokens", "Tokens encoded.")
        self._padding = counter("padding_tokens", "Cells of padding in batches of near-equal length.")
        self._batch_tokens = histogram("batch_tokens", "Tokens of a batch.", _TOKENS)
        self._batch_texts = histogram("batch_texts", "Texts of a batch.", _TOKENS[:10])
        self._batch_seconds = histogram("batch_seconds", "Time of a batch.", _SECONDS)
        self._waited = histogram("queue_seconds", "Waiting time of a batch's first text.", _SECONDS)

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a gauge that is read when asked for."""
        Gauge(f"udever_{name}", text, registry=self.registry).set_function(value)

    def answered(self, endpoint: str, status: int, seconds: float) -> None:
        """Count one answer."""
        self._requests.labels(endpoint, str(status)).inc()
        self._seconds.labels(endpoint).observe(seconds)

    def refused(self, reason: str) -> None:
        """Count a connection that was hung up on."""
        self._refused.labels(reason).inc()

    def ran(self, report: BatchReport) -> None:
        """Count one batch; called in the worker threads, one at a time."""
        self._tokens.inc(report.num_tokens)
        self._padding.inc(report.rectangle - report.num_tokens)
        self._batch_tokens.observe(report.num_tokens)
        self._batch_texts.observe(report.num_texts)
        self._batch_seconds.observe(report.seconds)
        self._waited.observe(max(0.0, report.waited_s))

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)
