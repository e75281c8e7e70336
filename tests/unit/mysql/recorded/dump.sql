-- MySQL dump 10.13  Distrib 9.7.4, for Linux (x86_64)
--
-- Host: localhost    Database: foobar
-- ------------------------------------------------------
-- Server version	9.7.4-2

/*!40101 SET @OLD_CHARACTER_SET_CLIENT=@@CHARACTER_SET_CLIENT */;
/*!40101 SET @OLD_CHARACTER_SET_RESULTS=@@CHARACTER_SET_RESULTS */;
/*!40101 SET @OLD_COLLATION_CONNECTION=@@COLLATION_CONNECTION */;
/*!50503 SET NAMES utf8mb4 */;
/*!40103 SET @OLD_TIME_ZONE=@@TIME_ZONE */;
/*!40103 SET TIME_ZONE='+00:00' */;
/*!40014 SET @OLD_UNIQUE_CHECKS=@@UNIQUE_CHECKS, UNIQUE_CHECKS=0 */;
/*!40014 SET @OLD_FOREIGN_KEY_CHECKS=@@FOREIGN_KEY_CHECKS, FOREIGN_KEY_CHECKS=0 */;
/*!40101 SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */;
/*!40111 SET @OLD_SQL_NOTES=@@SQL_NOTES, SQL_NOTES=0 */;
SET @MYSQLDUMP_TEMP_LOG_BIN = @@SESSION.SQL_LOG_BIN;
SET @@SESSION.SQL_LOG_BIN= 0;

--
-- GTID state at the beginning of the backup 
--

/* SET @@GLOBAL.GTID_PURGED='+fc985a82-e5b7-11f1-b888-02ec0e70f726:1-612,
fc999679-e5b7-11f1-91fd-028a7fa85161:1-1275';*/

--
-- Table structure for table `markers`
--

DROP TABLE IF EXISTS `markers`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!50503 SET character_set_client = utf8mb4 */;
CREATE TABLE `markers` (
  `id` varchar(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  `host` varchar(64) NOT NULL COMMENT 'the web server that wrote the marker',
  `created` datetime(3) NOT NULL COMMENT 'UTC',
  PRIMARY KEY (`id`),
  KEY `markers_created` (`created`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_0900_ai_ci;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `markers`
--
-- WHERE:  1=1 limit 3

LOCK TABLES `markers` WRITE;
/*!40000 ALTER TABLE `markers` DISABLE KEYS */;
set autocommit=0;
INSERT INTO `markers` VALUES ('35226e5f0e6e514d','web-01','2026-11-21 14:39:25.669');
INSERT INTO `markers` VALUES ('428e644a0a91ea1d','web-01','2026-11-21 14:39:26.875');
INSERT INTO `markers` VALUES ('a040fd5a71c58104','web-01','2026-11-21 14:29:46.767');
/*!40000 ALTER TABLE `markers` ENABLE KEYS */;
UNLOCK TABLES;
commit;

--
-- Table structure for table `notes`
--

DROP TABLE IF EXISTS `notes`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!50503 SET character_set_client = utf8mb4 */;
CREATE TABLE `notes` (
  `seq` bigint unsigned NOT NULL AUTO_INCREMENT,
  `id` varchar(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  `author` varchar(40) NOT NULL,
  `text` varchar(500) NOT NULL,
  `host` varchar(64) NOT NULL COMMENT 'the web server that took the note',
  `created` datetime(3) NOT NULL COMMENT 'UTC',
  PRIMARY KEY (`seq`),
  UNIQUE KEY `notes_id` (`id`)
) ENGINE=InnoDB AUTO_INCREMENT=1772 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_0900_ai_ci;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `notes`
--
-- WHERE:  1=1 limit 3

LOCK TABLES `notes` WRITE;
/*!40000 ALTER TABLE `notes` DISABLE KEYS */;
set autocommit=0;
INSERT INTO `notes` VALUES (1,'41ca353d-5a00-424a-9f8a-8ead2cb3f812','a','one','web-02','2026-11-21 14:39:39.649');
INSERT INTO `notes` VALUES (2,'0edf2aab-01ec-4b7a-a71c-9b583484629f','a','two','web-01','2026-11-21 14:39:39.664');
INSERT INTO `notes` VALUES (3,'714e3935-7eb3-4916-a070-c1586fb63b29','a','two2','web-02','2026-11-21 14:45:57.988');
/*!40000 ALTER TABLE `notes` ENABLE KEYS */;
UNLOCK TABLES;
commit;

--
-- Table structure for table `schema_migrations`
--

DROP TABLE IF EXISTS `schema_migrations`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!50503 SET character_set_client = utf8mb4 */;
CREATE TABLE `schema_migrations` (
  `number` int unsigned NOT NULL,
  `name` varchar(255) NOT NULL,
  `checksum` char(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  `applied` datetime(3) NOT NULL COMMENT 'UTC',
  PRIMARY KEY (`number`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_0900_ai_ci;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `schema_migrations`
--
-- WHERE:  1=1 limit 3

LOCK TABLES `schema_migrations` WRITE;
/*!40000 ALTER TABLE `schema_migrations` DISABLE KEYS */;
set autocommit=0;
INSERT INTO `schema_migrations` VALUES (1,'0001_notes.sql','7d237bc41ea88c8ad27d11d5b0b7797a75ac0dcfc7523e2f37c5c34627be19c9','2026-11-21 14:29:44.963');
INSERT INTO `schema_migrations` VALUES (2,'0002_markers.sql','51666d95adeb0f3f3130ca0c6487448033cd2ba6c28175462cfdd213b9cb26cc','2026-11-21 14:29:44.973');
/*!40000 ALTER TABLE `schema_migrations` ENABLE KEYS */;
UNLOCK TABLES;
commit;

--
-- Dumping events for database 'foobar'
--

--
-- Dumping routines for database 'foobar'
--
SET @@SESSION.SQL_LOG_BIN = @MYSQLDUMP_TEMP_LOG_BIN;
/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE */;

/*!40101 SET SQL_MODE=@OLD_SQL_MODE */;
/*!40014 SET FOREIGN_KEY_CHECKS=@OLD_FOREIGN_KEY_CHECKS */;
/*!40014 SET UNIQUE_CHECKS=@OLD_UNIQUE_CHECKS */;
/*!40101 SET CHARACTER_SET_CLIENT=@OLD_CHARACTER_SET_CLIENT */;
/*!40101 SET CHARACTER_SET_RESULTS=@OLD_CHARACTER_SET_RESULTS */;
/*!40101 SET COLLATION_CONNECTION=@OLD_COLLATION_CONNECTION */;
/*!40111 SET SQL_NOTES=@OLD_SQL_NOTES */;

-- Dump completed on 2026-11-21 14:49:07
