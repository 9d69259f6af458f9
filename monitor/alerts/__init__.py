"""The alerting loop: what is measured, when an alert is raised or over, and notices on their way out."""
