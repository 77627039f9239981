"""What inventory does with what arrives, one module per event: translate, lock late, decide, record, emit."""
