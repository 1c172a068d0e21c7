//! Real SDKs and the programs of the guide, each with its base URL changed and nothing else.
