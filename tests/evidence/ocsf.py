"""OCSF events against the schemas of the framework itself."""

import functools
import json

import jsonschema
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

VERSION = "1.8.0"
schemas = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=VERSION))


@functools.cache
def validator(class_uid, profiles):
    schema = schemas.get_class_schema(class_name=schemas.lookup_class_name_from_uid(class_uid), profiles=list(profiles))
    return jsonschema.Draft202012Validator(schema)


def mistakes(lines):
    """What is wrong, and how many events there are of each class."""
    found, classes = [], {}
    for line in lines:
        event = json.loads(line)
        classes[event["class_uid"]] = classes.get(event["class_uid"], 0) + 1
        profiles = tuple(event["metadata"].get("profiles", ()))
        for error in validator(event["class_uid"], profiles).iter_errors(event):
            found.append(f"{event['class_uid']} {event['metadata']['event_code']}: {error.json_path}: {error.message}")
    return found, classes
