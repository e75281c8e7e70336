"""What is backed up, and where backups are kept on a machine."""

FOLDER = "/var/backups/lab-mysql"
SCHEMA = "foobar"
