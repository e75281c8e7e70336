-- Canary rows of the monitoring, deleted again by the application.
CREATE TABLE IF NOT EXISTS markers (
  id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  host VARCHAR(64) NOT NULL COMMENT 'the web server that wrote the marker',
  created DATETIME(3) NOT NULL COMMENT 'UTC',
  PRIMARY KEY (id),
  KEY markers_created (created)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci;
