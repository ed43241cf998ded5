"""What a step is in numbers, under the tags that every logger shares and the README lists."""

from normlab.core.records import StepRecord


class Scalars:
    """The numbers of one record after another, those it measured; the speed is since the record before."""

    def __init__(self) -> None:
        self._tokens, self._seconds = 0, 0.0

    def of(self, record: StepRecord) -> dict[str, float]:
        """By tag."""
        scalars = {
            "loss/train": record.train_loss,
            "lr": record.lr,
            "grad_norm/total": record.grad_norm,
            **record.telemetry,
        }
        if record.val_loss is not None:
            scalars["loss/val"] = record.val_loss
        if record.seconds > self._seconds and record.tokens > self._tokens:
            speed = (record.tokens - self._tokens) / (record.seconds - self._seconds)
            scalars["throughput/tokens_per_second"] = speed
        self._tokens, self._seconds = record.tokens, record.seconds
        return scalars
