"""The one loop: iterate, record, stop; as one program or with a clock."""
