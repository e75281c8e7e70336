-- The guest book. `id` is the client's own: its unique key makes a repeated write harmless.
-- `seq` is the order of arrival, whatever the clocks of the web servers say.
CREATE TABLE IF NOT EXISTS notes (
  seq BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  author VARCHAR(40) NOT NULL,
  text VARCHAR(500) NOT NULL,
  host VARCHAR(64) NOT NULL COMMENT 'the web server that took the note',
  created DATETIME(3) NOT NULL COMMENT 'UTC',
  PRIMARY KEY (seq),
  UNIQUE KEY notes_id (id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci;
