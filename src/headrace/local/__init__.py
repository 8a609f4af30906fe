"""Servers for one laptop and for tests: Apache Kafka from its jars, Valkey from a wheel. Never for production.

They listen on 127.0.0.1 only, know no passwords, and end with the process that started them.
"""
