"""Verifies an NDJSON export by docs/evidence.md alone: nothing here knows Picket's code. `python verify.py FILE`"""

import datetime
import hashlib
import json
import sys


def text(value):
    if value is None:
        return b"\0"
    raw = value.encode()
    return b"\1" + len(raw).to_bytes(4, "big") + raw


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def raw_metadata(line):
    """The text of the metadata as it stands in the line."""
    start = line.find('"metadata":')
    while start >= 0:
        start += len('"metadata":')
        try:
            _, length = json.JSONDecoder().raw_decode(line[start:])
            if json.loads(line).get("metadata") == json.loads(line[start:start + length]):
                return line[start:start + length]
        except ValueError:
            pass
        start = line.find('"metadata":', start)
    return "{}"


def read(line):
    """What a line says of its chain: its digest as it was written, and as it is now where a person's name was taken from it."""
    record = json.loads(line)
    chain = record["chain"]
    time = datetime.datetime.fromisoformat(record["timestamp"])
    millis = str(round(time.timestamp() * 1000))
    said = [record["id"], millis, record["eventType"], record["severity"]]
    said += [record.get(name) for name in ("eventName", "route", "node", "reason")]
    written, now = chain.get("commitment") and bytes.fromhex(chain["commitment"]), None
    if "salt" in chain:
        personal = [record["ip"], record["message"], record.get("socketId"), record.get("userId"), raw_metadata(line)]
        now = sha256(b"picket audit personal 1", bytes.fromhex(chain["salt"]), *map(text, personal))
    digests = [value and sha256(b"picket audit record 1", *map(text, said), value) for value in (written or now, now)]
    return {
        "writer": chain["writer"], "seq": chain["seq"], "hash": bytes.fromhex(chain["hash"]), "digest": digests[0],
        "restated": digests[1] if written and now else None,
        "proves": record.get("metadata", {}).get("restated", []) if record["eventType"] == "ADMIN_ACTION" else [],
    }


def verify(lines):
    """How many records follow from what they say and the one before, how many are taken as given, and the broken ones."""
    chains, follows, given, broken, proven = {}, [], 0, [], set()
    for record in map(read, lines):
        chains.setdefault(record["writer"], {})[record["seq"]] = record
    for writer, records in chains.items():
        for seq, record in sorted(records.items()):
            first = sha256(b"picket audit chain 1", writer.encode()) if seq == 1 else None
            before = first or records.get(seq - 1, {}).get("hash")
            if before is None:
                given += 1
            elif sha256(before, record["digest"]) == record["hash"]:
                follows.append(record)
                proven.update(record["proves"])
            else:
                broken.append((writer, seq))
    unproven = sum(1 for record in follows if record["restated"] and record["restated"].hex() not in proven)
    return len(follows) - unproven, given + unproven, broken


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as export:
        print(verify(export.read().splitlines()))
