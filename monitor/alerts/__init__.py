"""The alerting loop: measurements, the decisions when an alert is raised or over, and the delivery of notices."""
