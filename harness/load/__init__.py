"""Load: the Locust process that sends, and the driver that tells it what. The only importer of Locust and gevent."""
