"""Lifecycle rules of an S3 bucket."""

from collections.abc import Sequence
from typing import Any

from botocore.exceptions import ClientError

from tasks.storage.lifecycle import RULE_ID, AbortRule, describe_rule
from tasks.storage.s3.errors import code_of, s3_errors, status_of

# Settings of the whole configuration; a write without them resets them.
_OF_THE_WHOLE = ("TransitionDefaultMinimumObjectSize",)


class S3Lifecycle:
    def __init__(self, client: Any, bucket: str, root: str) -> None:
        self._client, self._bucket, self._root = client, bucket, root

    def list_rules(self) -> tuple[AbortRule, ...] | None:
        with s3_errors("read the lifecycle rules of", f"s3://{self._bucket}"):
            current = self._read()
        if current is None:
            return None
        rules = (self._describe(rule) for rule in current["Rules"])
        return tuple(rule for rule in rules if rule is not None)

    def set_rules(self, prefixes: Sequence[str], days: int) -> None:
        with s3_errors("set the lifecycle rules of", f"s3://{self._bucket}"):
            current = self._read() or {"Rules": []}
            # `Prefix` and `Filter` must not be mixed in one configuration.
            is_old_style = any("Prefix" in rule for rule in current["Rules"])
            ours = [
                {
                    "ID": f"{RULE_ID}{place['Prefix']}",
                    "Status": "Enabled",
                    **(place if is_old_style else {"Filter": place}),
                    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": days},
                }
                for place in ({"Prefix": self._root + prefix} for prefix in prefixes)
            ]
            replaced = {rule["ID"] for rule in ours}
            kept = [rule for rule in current["Rules"] if rule.get("ID") not in replaced]
            self._client.put_bucket_lifecycle_configuration(
                Bucket=self._bucket,
                LifecycleConfiguration={"Rules": [*kept, *ours]},
                **{name: current[name] for name in _OF_THE_WHOLE if name in current},
            )

    def _read(self) -> dict[str, Any] | None:
        """Return the rules; None if the server does not support lifecycle rules."""
        try:
            answer: dict[str, Any] = self._client.get_bucket_lifecycle_configuration(
                Bucket=self._bucket
            )
        except ClientError as error:
            if code_of(error) == "NoSuchLifecycleConfiguration":
                return {"Rules": []}
            if status_of(error) in (405, 501):
                return None
            raise
        return {"Rules": [], **answer}

    def _describe(self, rule: dict[str, Any]) -> AbortRule | None:
        """Return the rule; None if it is disabled, partial, or does not abort uploads."""
        where = rule["Filter"] if rule.get("Filter") else {"Prefix": rule.get("Prefix", "")}
        if (
            rule["Status"] != "Enabled"
            or "AbortIncompleteMultipartUpload" not in rule
            or set(where) - {"Prefix"}
        ):
            return None
        days = rule["AbortIncompleteMultipartUpload"].get("DaysAfterInitiation", 0)
        return describe_rule(rule.get("ID", ""), where["Prefix"], days, self._root)
