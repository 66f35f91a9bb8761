"""Rights as DDS-Security documents: governance of a domain, permissions of an enclave. Text only, no keys.

ROS names become DDS topics as the middleware makes them: ``rt`` before a topic, ``rq`` and ``Request``, ``rr`` and
``Reply`` around a service.
"""

import xml.etree.ElementTree as ElementTree
from datetime import datetime

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.paths import enclave
from vla_mbpo.security.rights import Rights

DISCOVERY = "ros_discovery_info"  # by which every participant tells the others its nodes
_SCHEMA = "http://www.omg.org/spec/DDS-SECURITY/20170901/omg_shared_ca_{}.xsd"


def governance(domain: int) -> str:
    """Nobody joins, reads or writes without a certificate and a permission; all is encrypted, discovery too."""
    root, rules = _document("governance"), ElementTree.Element("domain_access_rules")
    root.append(rules)
    rule = ElementTree.SubElement(rules, "domain_rule")
    _domains(rule, domain)
    kinds = ("discovery_protection_kind", "liveliness_protection_kind", "rtps_protection_kind")
    for name, value in (
        ("allow_unauthenticated_participants", "false"),
        ("enable_join_access_control", "true"),
        *((kind, "ENCRYPT") for kind in kinds),
    ):
        ElementTree.SubElement(rule, name).text = value
    topic = ElementTree.SubElement(ElementTree.SubElement(rule, "topic_access_rules"), "topic_rule")
    protected = ("discovery_protection", "liveliness_protection", "read_access_control", "write_access_control")
    for name, value in (
        ("topic_expression", "*"),
        *((f"enable_{what}", "true") for what in protected),
        ("metadata_protection_kind", "ENCRYPT"),
        ("data_protection_kind", "ENCRYPT"),
    ):
        ElementTree.SubElement(topic, name).text = value
    return _text(root)


def permissions(node: str, rights: Rights, domain: int, begin: datetime, end: datetime) -> str:
    """The permissions of a node's enclave in one domain, from ``begin`` to ``end`` (UTC); all else is denied."""
    root = _document("permissions")
    grant = ElementTree.SubElement(ElementTree.SubElement(root, "permissions"), "grant", name=enclave(node))
    ElementTree.SubElement(grant, "subject_name").text = f"CN={enclave(node)}"
    validity = ElementTree.SubElement(grant, "validity")
    for name, moment in (("not_before", begin), ("not_after", end)):
        ElementTree.SubElement(validity, name).text = moment.strftime("%Y-%m-%dT%H:%M:%S")
    rule = ElementTree.SubElement(grant, "allow_rule")
    _domains(rule, domain)
    for kind, topics in zip(("publish", "subscribe"), dds_topics(rights), strict=True):
        listed = ElementTree.SubElement(ElementTree.SubElement(rule, kind), "topics")
        for topic in sorted(topics):
            ElementTree.SubElement(listed, "topic").text = topic
    ElementTree.SubElement(grant, "default").text = "DENY"
    return _text(root)


def dds_topics(rights: Rights) -> tuple[frozenset[str], frozenset[str]]:
    """DDS topics that are written and read."""
    asked = {f"rq{name}Request" for name in rights.calls}, {f"rr{name}Reply" for name in rights.calls}
    served = {f"rr{name}Reply" for name in rights.serves}, {f"rq{name}Request" for name in rights.serves}
    said, heard = {f"rt{name}" for name in rights.publishes}, {f"rt{name}" for name in rights.subscribes}
    written, read = said | asked[0] | served[0], heard | asked[1] | served[1]
    return frozenset({*written, DISCOVERY}), frozenset({*read, DISCOVERY})


def granted(text: str, source: str) -> tuple[Rights, int]:
    """Rights and domain of a permissions document. ConfigError: it is none of those that ``permissions`` writes.

    ``source``: named in the error. Wildcards, several rules and half a service are refused: whoever grants more than
    this module does by hand, grants it unseen.
    """
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ConfigError(source, str(error), "expected a permissions document") from None
    grants = root.findall("permissions/grant")
    rules = [rule for grant in grants for kind in ("allow_rule", "deny_rule") for rule in grant.findall(kind)]
    fits = len(grants) == len(rules) == 1 and grants[0].findtext("default") == "DENY"
    require(fits, source, f"{len(grants)} grants, {len(rules)} rules", "one grant with one rule that denies by default")
    domain = rules[0].findtext("domains/id", "")
    require(domain.isdecimal(), source, domain, "expected one domain")
    written, read = (
        frozenset(t.text or "" for t in rules[0].findall(f"{kind}/topics/topic")) for kind in ("publish", "subscribe")
    )
    wild = sorted(topic for topic in written | read if set(topic) & set("*?["))
    require(not wild, source, ", ".join(wild), "topics without wildcards")
    found = Rights(
        _between(written, "rt", ""),
        _between(read, "rt", ""),
        serves=_between(written, "rr", "Reply"),
        calls=_between(written, "rq", "Request"),
    )
    odd = sorted(topic for have, want in zip((written, read), dds_topics(found), strict=True) for topic in have ^ want)
    require(not odd, source, ", ".join(odd), "topics, and requests together with their replies")
    return found, int(domain)


def _between(topics: frozenset[str], prefix: str, suffix: str) -> frozenset[str]:
    mine = (t for t in topics if t.startswith(f"{prefix}/") and t.endswith(suffix))
    return frozenset(t[len(prefix) : len(t) - len(suffix)] for t in mine)


def _document(kind: str) -> ElementTree.Element:
    names = {"xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance"}
    return ElementTree.Element("dds", {**names, "xsi:noNamespaceSchemaLocation": _SCHEMA.format(kind)})


def _domains(parent: ElementTree.Element, domain: int) -> None:
    ElementTree.SubElement(ElementTree.SubElement(parent, "domains"), "id").text = str(domain)


def _text(root: ElementTree.Element) -> str:
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'
