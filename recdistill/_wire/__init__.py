r"""Generated protobuf code. Only `recdistill.records` may import it; `tools/generate_proto.py` writes it.

It knows nothing of validity: whatever parses is a message.

Example:
    >>> from recdistill._wire import records_pb2
    >>> records_pb2.Item(id="a").SerializeToString()
    b'\n\x01a'
"""
