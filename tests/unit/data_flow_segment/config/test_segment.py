# SPDX-License-Identifier: Apache-2.0
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from data_flow_segment.config.segment import DataFlowSegmentConfig


def whole(**changes: Any) -> dict[str, Any]:
    return {
        "segment_id": 256,
        "external": ["ext0"],
        "internal": ["int0"],
        "ssmb": {"address": "10.255.0.1"},
        "key_file": "cluster.key",
        **changes,
    }


def test_the_least_configuration_gets_the_documented_defaults() -> None:
    config = DataFlowSegmentConfig.model_validate(whole())
    assert (config.csmb.address, config.csmb.port) == ("0.0.0.0", 61019)
    assert config.ssmb.port == 61019
    assert (config.target, config.attach, config.flow_capacity) == ("bpf", "auto", 65536)
    assert config.key_file == Path("cluster.key")
    assert config.virtual_addresses.echo
    assert config.virtual_addresses.unserved == "refuse"


def test_one_arm_is_the_same_interface_on_both_sides() -> None:
    config = DataFlowSegmentConfig.model_validate(whole(external=["eth0"], internal=["eth0"]))
    assert config.external == config.internal


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"segment_id": 127}, "greater than or equal to 256"),
        ({"segment_id": 65536}, "less than or equal to 65535"),
        ({"target": "p4"}, "there are: bpf, memory, p4runtime"),
        ({"external": []}, "at least one interface each"),
        ({"internal": ["a name"]}, "cannot be the name of an interface"),
        ({"internal": ["sixteen-letters."]}, "cannot be the name of an interface"),
        ({"ssmb": {"address": "0.0.0.0"}}, "give one address of this machine"),
        ({"ssmb": {"address": "10.0.0.256"}}, "not an IPv4 or IPv6 address"),
        ({"ssmb": {"address": "::ffff:10.0.0.1"}}, "an IPv4-mapped address; give 10.0.0.1"),
        ({"ssmb": {"address": "::ffff:0.0.0.0"}}, "an IPv4-mapped address"),
        ({"csmb": {"address": "::ffff:0.0.0.0"}}, "an IPv4-mapped address"),
        ({"ssmb": {"address": "10.0.0.1", "port": 0}}, "greater than or equal to 1"),
        (
            {"ssmb": {"address": "10.0.0.1", "multicast": {"interfaces": ["a", "a"]}}},
            "a is given twice",
        ),
        (
            {"ssmb": {"address": "10.0.0.1", "multicast": {"interfaces": ["a b"]}}},
            "cannot be the name of an interface",
        ),
        (
            {"ssmb": {"address": "10.0.0.1", "multicast": {"ttl": 0}}},
            "greater than or equal to 1",
        ),
        ({"key_file": None}, "give either key_file"),
        ({"laboratory_no_authentication": True}, "give either key_file"),
        ({"flow_capacity": 0}, "greater than or equal to 1"),
        ({"virtual_addresses": {"unserved": "reject"}}, "'refuse' or 'drop'"),
        ({"virtual_addresses": {"echo": 1}}, "valid boolean"),
        ({"flows": 1}, "Extra inputs are not permitted"),
    ],
)
def test_what_cannot_work_is_refused_with_a_reason(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        DataFlowSegmentConfig.model_validate(whole(**changes))
    assert says in str(caught.value)
