"""Lifecycle rules of an OSS bucket, read and written as XML.

The classes of oss2 drop unsupported elements, and rules that are not ours must not change.
"""

from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

from oss2.exceptions import NoSuchLifecycle, ServerError

from tasks.storage.lifecycle import RULE_ID, AbortRule, describe_rule
from tasks.storage.oss.client import oss_errors

# Other rules may overlap with ours, which OSS rejects without this header.
_HEADERS = {"x-oss-allow-same-action-overlap": "true"}


class OssLifecycle:
    def __init__(self, bucket: Any, root: str) -> None:
        self._bucket, self._root = bucket, root

    def list_rules(self) -> tuple[AbortRule, ...] | None:
        with oss_errors("read the lifecycle rules of", f"oss://{self._bucket.bucket_name}"):
            current = self._read()
        if current is None:
            return None
        rules = (self._describe(rule) for rule in current.findall("Rule"))
        return tuple(rule for rule in rules if rule is not None)

    def set_rules(self, prefixes: Sequence[str], days: int) -> None:
        with oss_errors("set the lifecycle rules of", f"oss://{self._bucket.bucket_name}"):
            configuration = self._read()
            if configuration is None:
                configuration = ElementTree.Element("LifecycleConfiguration")
            ids = {f"{RULE_ID}{self._root}{prefix}": self._root + prefix for prefix in prefixes}
            for entry in configuration.findall("Rule"):
                if entry.findtext("ID") in ids:
                    configuration.remove(entry)
            for rule_id, prefix in ids.items():
                entry = ElementTree.SubElement(configuration, "Rule")
                for name, text in (("ID", rule_id), ("Prefix", prefix), ("Status", "Enabled")):
                    ElementTree.SubElement(entry, name).text = text
                abort = ElementTree.SubElement(entry, "AbortMultipartUpload")
                ElementTree.SubElement(abort, "Days").text = str(days)
            self._bucket.put_bucket_lifecycle(ElementTree.tostring(configuration), _HEADERS)

    def _read(self) -> ElementTree.Element | None:
        """Return the rules; None if the server does not support lifecycle rules."""
        try:
            # The request of `get_bucket_lifecycle`, which does not return the XML.
            answer = self._bucket._do("GET", self._bucket.bucket_name, "", params={"lifecycle": ""})
            return ElementTree.fromstring(answer.read())
        except NoSuchLifecycle:
            return ElementTree.Element("LifecycleConfiguration")
        except ServerError as error:
            if error.status in (405, 501):
                return None
            raise

    def _describe(self, rule: ElementTree.Element) -> AbortRule | None:
        """Return the rule; None if it is disabled, partial, or does not abort uploads."""
        abort = rule.find("AbortMultipartUpload")
        if (
            abort is None
            or rule.findtext("Status") != "Enabled"
            or rule.find("Tag") is not None
            or rule.find("Filter") is not None
        ):
            return None
        days = int(abort.findtext("Days", "0"))
        return describe_rule(
            rule.findtext("ID", ""), rule.findtext("Prefix") or "", days, self._root
        )
