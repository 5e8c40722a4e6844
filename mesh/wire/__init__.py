"""The wire protocol of `docs/protocol.md`: messages, their codec, and the bodies they carry. Pure."""
