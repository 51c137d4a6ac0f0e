"""Who may do what: docs/PROTOCOL.md, "What you may do"."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.errors import Invalid
from chalicelib.protocol.grants import EVERYTHING, NOTHING, Grants, Verb, parse_grants

CHANNEL_VERBS = [Verb.SUBSCRIBE, Verb.PUBLISH, Verb.PRESENCE, Verb.HISTORY]
VERB_NAMES = ["subscribe", "publish", "presence", "history"]


def may(grants: Grants, user_id: str | None, verb: Verb, target: str | None = None) -> bool:
    return grants.allow(user_id, verb, target) and not grants.deny(verb, target)


class TestPatterns:
    @pytest.mark.parametrize(
        ("pattern", "reached", "missed"),
        [
            ("chat:a", ["chat:a"], ["chat:b", "chat:a:b", "chat", "chat:*"]),
            ("chat:*", ["chat:a", "chat:a:b"], ["chat", "chatter:a", "feed:a"]),
            ("*", ["chat:a", "feed:a", "lobby"], ["user:u_2"]),
            ("user:*", ["user:u_1"], ["user:u_2", "user:"]),
            ("user:u_2", ["user:u_2"], ["user:u_3"]),
        ],
    )
    def test_a_channel_pattern_is_a_name_a_namespace_or_everything(
        self, pattern: str, reached: list[str], missed: list[str]
    ) -> None:
        grants = parse_grants({"channels": {pattern: ["publish"]}})
        assert [channel for channel in reached if not may(grants, "u_1", Verb.PUBLISH, channel)] == []
        assert [channel for channel in missed if may(grants, "u_1", Verb.PUBLISH, channel)] == []

    def test_a_verb_grants_only_itself(self) -> None:
        grants = parse_grants({"channels": {"chat:*": ["subscribe", "history"]}})
        allowed = [verb for verb in CHANNEL_VERBS if may(grants, "u_1", verb, "chat:a")]
        assert allowed == [Verb.SUBSCRIBE, Verb.HISTORY]

    def test_grants_of_several_patterns_add_up(self) -> None:
        grants = parse_grants({"channels": {"*": ["subscribe"], "chat:a": ["publish"]}})
        assert may(grants, "u_1", Verb.SUBSCRIBE, "chat:a")
        assert may(grants, "u_1", Verb.PUBLISH, "chat:a")
        assert not may(grants, "u_1", Verb.PUBLISH, "chat:b")

    def test_users_are_named_matched_by_prefix_or_all(self) -> None:
        grants = parse_grants({"users": ["u_2", "team:*"]})
        assert may(grants, "u_1", Verb.SEND, "u_2")
        assert may(grants, "u_1", Verb.SEND, "team:ann")
        assert not may(grants, "u_1", Verb.SEND, "u_3")

    def test_only_a_grant_for_all_users_reaches_an_anonymous_client(self) -> None:
        assert not may(parse_grants({"users": ["u_2", "team:*"]}), "u_1", Verb.SEND, None)
        assert may(parse_grants({"users": ["*"]}), "u_1", Verb.SEND, None)

    def test_broadcast_is_a_grant_of_its_own(self) -> None:
        assert may(parse_grants({"broadcast": True}), "u_1", Verb.BROADCAST)
        assert not may(parse_grants({"users": ["*"], "channels": {"*": VERB_NAMES}}), "u_1", Verb.BROADCAST)


class TestPersonalChannels:
    def test_its_owner_subscribes_and_reads_history_without_a_grant(self) -> None:
        assert [verb for verb in CHANNEL_VERBS if may(NOTHING, "u_1", verb, "user:u_1")] == [
            Verb.SUBSCRIBE,
            Verb.HISTORY,
        ]

    def test_an_owner_whose_id_has_a_colon_is_still_its_only_owner(self) -> None:
        assert may(NOTHING, "team:ann", Verb.SUBSCRIBE, "user:team:ann")
        assert not may(NOTHING, "team", Verb.SUBSCRIBE, "user:team:ann")

    def test_the_channel_of_an_empty_name_belongs_to_nobody(self) -> None:
        assert not may(NOTHING, None, Verb.SUBSCRIBE, "user:")
        assert not may(EVERYTHING, None, Verb.SUBSCRIBE, "user:")

    def test_a_grant_for_everything_excludes_other_personal_channels(self) -> None:
        assert [verb for verb in CHANNEL_VERBS if may(EVERYTHING, "u_1", verb, "user:u_2")] == []

    def test_a_denial_applies_to_the_owner_too(self) -> None:
        grants = parse_grants({"deny": {"channels": {"user:*": ["subscribe"]}}})
        assert not may(grants, "u_1", Verb.SUBSCRIBE, "user:u_1")


patterns = st.sampled_from(["*", "chat:*", "feed:*", "user:*", "chat:a", "chat:b", "feed:a", "user:u_1", "user:u_2"])
user_patterns = st.sampled_from(["*", "team:*", "u_1", "u_2", "team:ann"])
rights = st.fixed_dictionaries(
    {},
    optional={
        "channels": st.dictionaries(patterns, st.lists(st.sampled_from(VERB_NAMES), unique=True)),
        "users": st.lists(user_patterns, unique=True),
        "broadcast": st.booleans(),
    },
)
claims = st.builds(lambda granted, denied: granted | {"deny": denied}, rights, rights)
channels = st.sampled_from(["chat:a", "chat:b", "feed:a", "user:u_1", "user:u_2", "lobby"])
users = st.sampled_from(["u_1", "u_2", "team:ann", None])
asked = st.one_of(
    st.tuples(st.sampled_from(CHANNEL_VERBS), channels),
    st.tuples(st.just(Verb.SEND), users),
    st.tuples(st.just(Verb.BROADCAST), st.none()),
)


@pytest.mark.slow
class TestWhatAlwaysHolds:
    @given(granted=rights, denied=rights, user_id=users, ask=asked)
    def test_a_denial_beats_every_grant(self, granted: Any, denied: Any, user_id: str | None, ask: Any) -> None:
        if parse_grants(denied).allow(user_id, *ask) and ask[1] != f"user:{user_id}":
            assert not may(parse_grants(granted | {"deny": denied}), user_id, *ask)

    @given(denied=rights, user_id=users, ask=asked)
    def test_without_grants_only_the_own_channel_is_allowed(self, denied: Any, user_id: str | None, ask: Any) -> None:
        if may(parse_grants({"deny": denied}), user_id, *ask):
            assert ask[1] == f"user:{user_id}"

    @given(given=claims, user_id=users, verb=st.sampled_from(CHANNEL_VERBS))
    def test_no_wildcard_reaches_another_users_personal_channel(
        self, given: Any, user_id: str | None, verb: Verb
    ) -> None:
        for owner in {"u_1", "u_2", "u_3"} - {user_id}:
            named = verb.value in given.get("channels", {}).get(f"user:{owner}", [])
            assert named or not may(parse_grants(given), user_id, verb, f"user:{owner}")

    @given(claims)
    def test_grants_survive_being_stored(self, given: Any) -> None:
        grants = parse_grants(given)
        assert parse_grants(json.loads(json.dumps(grants.as_claims()))) == grants


class TestMalformedClaims:
    @pytest.mark.parametrize(
        ("claims", "sentence"),
        [
            ({"channels": []}, "channels must be an object of patterns and their verbs."),
            ({"channels": None}, "channels must be an object of patterns and their verbs."),
            (
                {"channels": {"chat:a": "publish"}},
                "channels must have arrays of subscribe, publish, presence, history as values.",
            ),
            (
                {"channels": {"chat:a": ["write"]}},
                "channels must have arrays of subscribe, publish, presence, history as values.",
            ),
            (
                {"channels": {"chat:a": [["publish"]]}},
                "channels must have arrays of subscribe, publish, presence, history as values.",
            ),
            ({"channels": {"": []}}, "channels must have names, namespace:* or * as patterns."),
            ({"channels": {":*": []}}, "channels must have names, namespace:* or * as patterns."),
            ({"channels": {"ch*": []}}, "channels must have names, namespace:* or * as patterns."),
            ({"channels": {"chat:a:*": []}}, "channels must have names, namespace:* or * as patterns."),
            ({"channels": {"CHAN#1": []}}, "channels must have names, namespace:* or * as patterns."),
            ({"users": "u_1"}, "users must be an array of patterns."),
            ({"users": [1]}, "users must have strings as patterns."),
            ({"broadcast": 1}, "broadcast must be true or false."),
            ({"deny": ["chat:a"]}, "deny must be an object of channels, users and broadcast."),
            ({"deny": {"chanels": {}}}, "deny must be an object of channels, users and broadcast."),
            ({"deny": {"users": "*"}}, "deny.users must be an array of patterns."),
            (
                {"users": [f"{n:0127}" for n in range(16)]},
                "channels and the other grants must have at most 2048 bytes together.",
            ),
        ],
    )
    def test_they_are_refused_with_the_name_of_the_claim(self, claims: dict[str, Any], sentence: str) -> None:
        with pytest.raises(Invalid) as refused:
            parse_grants(claims)
        assert str(refused.value) == sentence

    def test_other_claims_are_ignored(self) -> None:
        assert parse_grants({"scope": "openid", "roles": 7}) == NOTHING
