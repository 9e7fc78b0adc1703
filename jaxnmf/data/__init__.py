"""V as an operand: dense, sparse or observed in part, and the conversion to one."""
