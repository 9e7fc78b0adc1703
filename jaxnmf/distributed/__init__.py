"""Runs on several devices and in several processes: V and its factors on a mesh."""

from jaxnmf.distributed.processes import start as start
