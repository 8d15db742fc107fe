// Objects as YAML and back. Strings that YAML 1.1 readers would take for something else are quoted.

import { parse, stringify } from "yaml";

export const write = (object) => stringify(object, { version: "1.1", lineWidth: 0, aliasDuplicateObjects: false });
export const writeSorted = (object) => stringify(object, { version: "1.1", lineWidth: 0, aliasDuplicateObjects: false, sortMapEntries: true });
export const read = (text) => parse(text, { version: "1.1", merge: true });
